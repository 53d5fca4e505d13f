"""Face detectors: each module is a member, see `nas.vision.base`."""
