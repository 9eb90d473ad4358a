"""A model for other programs: ONNX, a folder of plain torch, results as DICOM objects."""
