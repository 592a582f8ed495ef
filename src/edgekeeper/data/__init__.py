"""Image sets, the packed training store, exact patches and checks of both."""
