"""Outlines of lesions as files hold them: ASAP, QuPath, label images."""
