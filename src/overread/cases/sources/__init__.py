"""Tables, folders, archives and DICOM exports as cases."""
