"""Side by side with a peer or with what the machine can do: ratios, measured in one run."""
