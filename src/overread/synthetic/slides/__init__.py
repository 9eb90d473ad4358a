"""Phantom slides of any size, drawn tile by tile: tissue with islands of tumour, under up to three scanners."""
