"""What is alike: embeddings of cases, exact search among them, and how far its answers can be trusted."""
