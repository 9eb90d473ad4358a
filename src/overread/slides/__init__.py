"""Slides of whole sections: taught tile by tile, searched by heat maps, answered for by the lesions found."""
