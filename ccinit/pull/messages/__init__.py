"""What PID 1 and the children of a pull say to each other, in modules by who reads them."""
