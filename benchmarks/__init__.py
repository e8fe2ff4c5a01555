"""What a request costs the server. Figures are ratios within one run; nothing asserts seconds."""
