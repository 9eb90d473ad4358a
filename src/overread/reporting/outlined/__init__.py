"""What is told of images whose objects were outlined."""
