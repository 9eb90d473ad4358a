"""Learning: recipe, networks, features, heads, the loop, training and prediction. The only floor that needs torch."""

import os

# Threads that wait by spinning make a busy machine up to 7 times slower; read by OpenMP when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
