"""Who may use the service, and how much: keys, tickets, rates. Knows no HTTP."""
