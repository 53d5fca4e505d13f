"""OpenCV, an optional package: imported at use, and kept from writing to the terminal.

FFmpeg inside OpenCV opens local files only, and containers only: playlists, which name other files and addresses, and
text that would be played as a video, are left out.
"""

import os
from types import ModuleType

from nas.errors import MissingPackageError

FFMPEG_QUIET = "-8"
"""AV_LOG_QUIET of libavutil/log.h."""
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "gif", "flv", "asf", "mpeg", "mpegts", "mpegvideo", "ogg", "m4v",
    "h264", "hevc", "mjpeg", "mxf", "dv", "wtv", "rm", "ivf", "yuv4mpegpipe",
)  # fmt: skip
"""FFmpeg's demuxers of video files. Not among them are hls, dash, concat, tty and the readers of numbered pictures."""
ENVIRONMENT = {
    "OPENCV_FFMPEG_LOGLEVEL": FFMPEG_QUIET,
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": f"protocol_whitelist;file|format_whitelist;{','.join(CONTAINERS)}",
}
"""Variables that OpenCV reads when it opens a video; what the user has set stays."""


def import_cv2() -> ModuleType:
    """The module cv2, silent.

    Raises:
        MissingPackageError: OpenCV is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import cv2
    except ImportError:
        raise MissingPackageError("faces in pictures need OpenCV: pip install 'fer-nas[vision]'") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    module: ModuleType = cv2
    return module
