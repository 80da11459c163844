"""Codecs between the encoder and the decoder: the LR picture as people store and stream it.

coding.py and the real codecs (coders.py, clips.py) need no torch; jpeg.py, rate.py and layer.py are what training
differentiates.
"""
