"""What neighbours of the service do to it: proxies, other tools in the database, shells."""
