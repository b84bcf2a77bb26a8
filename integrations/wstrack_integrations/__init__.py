"""One module per tracker or trainer; each knows wstrack, none knows another."""
