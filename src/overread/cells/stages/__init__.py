"""Two stages: cells cut out of their images, told apart and pooled, and what each stage costs."""
