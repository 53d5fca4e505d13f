"""From a photograph to labels: sources of frames, face detectors, framing, classifier, tracking, drawing, outputs."""
