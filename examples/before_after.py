"""LR against bicubic against ours, one square: python examples/before_after.py PANORAMA LEFT TOP OUT.png.

The README's picture: python examples/before_after.py assets/courtyard.png 640 230 docs/before_after.png
"""

import sys

from PIL import Image, ImageDraw

import dinn360

SIDE, ZOOM, HEAD = 112, 3, 22
source, target = sys.argv[1], sys.argv[4]
left, top = int(sys.argv[2]), int(sys.argv[3])
original = Image.open(source).convert("RGB")
model = dinn360.load("x4")
lr = model.downscale(original)
width, height = original.size


def turned(picture: Image.Image) -> Image.Image:
    """The same size as the original, pixels of the LR image as squares."""
    return picture.resize((width, height), Image.Resampling.NEAREST)


plain = original.resize(lr.size, Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.BICUBIC)
panels = {
    "what is stored: 1/4 as wide": turned(lr),
    "bicubic down and up": plain,
    "DINN360 x4": model.upscale(lr),
    "original": original,
}
sheet = Image.new("RGB", (len(panels) * (SIDE * ZOOM + 6) - 6, SIDE * ZOOM + HEAD), "white")
draw = ImageDraw.Draw(sheet)
for index, (title, picture) in enumerate(panels.items()):
    cut = picture.crop((left, top, left + SIDE, top + SIDE)).resize((SIDE * ZOOM,) * 2, Image.Resampling.NEAREST)
    sheet.paste(cut, (index * (SIDE * ZOOM + 6), HEAD))
    draw.text((index * (SIDE * ZOOM + 6) + 2, 4), title, fill="black", font_size=14)
sheet.save(target, optimize=True)
print(f"{target}: {sheet.width}x{sheet.height}")
