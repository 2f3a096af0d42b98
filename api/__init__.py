"""HTTP in, HTTP out: nothing here touches a pixel or SQL."""
