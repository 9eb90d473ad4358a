"""Slides of whole sections: pyramids, places in microns, tissue, outlines of lesions, stain."""
