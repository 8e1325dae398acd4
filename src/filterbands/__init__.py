"""filterbands: which frequencies a convolutional network looks at, what that costs, how to change it."""

__version__ = "0.1.0"
