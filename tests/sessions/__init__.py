"""Sessions: tokens, the layouts of the auth server's table, and who is authenticated."""
