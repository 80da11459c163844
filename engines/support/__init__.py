"""What every other part leans on: errors for people, files, images, arrays, text. Imports nothing else of ours."""
