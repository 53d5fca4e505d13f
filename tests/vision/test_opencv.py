"""OpenCV's environment: silent, and what the user has set stays."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_users_settings_stay_and_the_log_is_silent() -> None:
    code = """
import os
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "mine"
from nas.vision.opencv import import_cv2
cv2 = import_cv2()
print(os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"], os.environ["OPENCV_FFMPEG_LOGLEVEL"])
print(cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.split() == ["mine", "-8", "True"]
