"""The table of cases: who, what, where; read, fingerprinted, audited, split. Nothing here imports torch."""
