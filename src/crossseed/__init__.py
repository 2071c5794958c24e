"""crossseed: which features found in one neural network also hold in its siblings, and through which map?"""

__version__ = "0.1.0"
