"""A real HTTP server that speaks the OpenAI contract: to rehearse jobs against, and to keep score of how they went."""
