"""The commands of ``slipway``, one file a subject; each is imported only when it is used."""
