"""Motion of the camera between neighbouring frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError, check_least
from dualstream.flow.images import one_opencv_thread, resize_short_side
from dualstream.types import Flow, Frames

_NUM_CORNERS = 1000
_CORNER_QUALITY = 0.001
_CORNER_DISTANCES = 80  # the short side holds this many corners at most
_NUM_FEATURES = 500
_HALVED_FROM_PX = 160  # short side from which features are sought at half the size
_SMALLEST_INLIER_RATIO = 0.2
_LARGEST_AREA_CHANGE = 2.0
_LARGEST_DIFFERENCE = 4  # grey levels of 255; 8 and 16 let more wrong ones pass on real clips

Points = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CameraMotion:
    """Motion of the background from each frame to the next."""

    homographies: NDArray[np.float64]
    """(T-1, 3, 3): the background pixel (x, y, 1) of frame t is at H (x, y, 1) in frame t + 1,
    after division by the third coordinate. The identity where no motion was found."""
    inlier_ratio: NDArray[np.float64]
    """(T-1,) share of the matched points that H explains; 0 where there are none."""

    def __post_init__(self) -> None:
        count = len(self.homographies)
        if self.homographies.shape != (count, 3, 3) or self.inlier_ratio.shape != (count,):
            raise ShapeError(
                f"CameraMotion needs homographies (T-1, 3, 3) and inlier_ratio (T-1,), got "
                f"{self.homographies.shape} and {self.inlier_ratio.shape}."
            )

    def __len__(self) -> int:
        return len(self.homographies)


def estimate_camera_motion(
    frames: Frames,
    flow: Flow,
    *,
    mask: NDArray[np.bool_] | None = None,
    threshold_px: float = 1.0,
    min_matches: int = 25,
    min_inliers: int = 25,
) -> CameraMotion:
    """Homography of the background between neighbouring frames.

    Two kinds of matches vote in RANSAC: SIFT features that are each other's nearest, which know
    no limit of motion, and the flow at corners, which are many and exact. The motion that most
    agree on is the camera's if the whole picture confirms it: the second image warped by it must
    be nearer to the first than unwarped. (Else, on close views, a person before an even wall
    would pass for the background.) If not, as with motion too fast for the flow, the features
    vote alone. What moves by itself and fills most of the picture still has to be masked out.

    The same input gives the same result: OpenCV's RANSAC draws from a generator of its own with
    a fixed seed, which `cv2.setRNGSeed` does not touch.

    Args:
        frames: T >= 2 frames.
        flow: (T-1, 2, h, w) forward flow of them, on their grid or on that of a short_side.
        mask: (T, h, w) True where people are, whose matches do not count; None counts all.
        threshold_px: largest distance of an inlier from where the homography brings it.
        min_matches: with fewer matches the homography is the identity.
        min_inliers: with fewer the homography is the identity, as where fewer than a fifth of
            the matches are inliers, or it is not plausible (see `is_plausible`).

    Returns:
        CameraMotion of T-1 homographies in pixels of the flow's grid.

    Raises:
        ShapeError: frames, flow and mask do not fit together.
        InputError: a NaN or infinity in the flow, or an option out of its range.

    Source:
        Wang & Schmid 2013, "Action Recognition with Improved Trajectories", section 2 (SURF
        features there; threshold of 1 pixel and 25 inliers as in their code).
    """
    if not 0 < threshold_px < float("inf"):
        raise InputError(f"threshold_px must be above 0 and finite, got {threshold_px}.")
    check_least(4, min_inliers=min_inliers)  # a homography needs four points
    images = _images_on_grid(frames, flow)
    if not np.isfinite(flow.data).all():
        raise InputError(f"Flow of {flow.source or 'memory'} holds a NaN or an infinity.")
    expected = (len(frames), *flow.size)
    if mask is not None and (mask.shape != expected or mask.dtype != np.bool_):
        raise ShapeError(
            f"mask must be {expected} bool on the flow's grid, got {mask.shape} {mask.dtype}."
        )
    homographies = np.empty((len(flow), 3, 3))
    ratios = np.empty(len(flow))
    with one_opencv_thread():
        greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
        features = [sift_features(grey) for grey in greys]
        for t, field in enumerate(flow.data):
            matches = _matches(*features[t], *features[t + 1]), _carried_corners(greys[t], field)
            free = np.ones(flow.size, np.bool_)
            if mask is not None:
                matches = _unmasked(matches[0], mask[t:]), _unmasked(matches[1], mask[t:])
                free = ~(mask[t] | mask[t + 1])
            both = np.concatenate(matches, 1)
            # By features and corners, else by features alone; else the camera stands still.
            for voters in (both, matches[0]):
                homography, ratios[t] = _fit(
                    voters, flow.size, threshold_px, min_matches, min_inliers
                )
                if homography is not None and _is_nearer(greys[t], greys[t + 1], homography, free):
                    homographies[t] = homography
                    break
            else:
                stay = np.hypot(*(both[1] - both[0]).T) <= threshold_px
                homographies[t], ratios[t] = np.eye(3), stay.mean() if len(stay) else 0
    return CameraMotion(homographies, ratios)


def warp_back(
    first: NDArray[np.uint8], second: NDArray[np.uint8], homography: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The second image as it would be had the camera not moved by `homography`.

    Args:
        first: (H, W, 3), or (H, W) grey; shows through where the second image has nothing.
        second: the same, read bilinearly.
        homography: (3, 3) from places in the first image to places in the second.

    Returns:
        The same.
    """
    if np.array_equal(homography, np.eye(3)):
        return second
    warped = np.ascontiguousarray(first).copy()
    height, width = first.shape[:2]
    with one_opencv_thread():
        cv2.warpPerspective(
            np.ascontiguousarray(second),
            homography,
            (width, height),
            dst=warped,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    return warped


def is_plausible(homography: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Whether a camera can have moved so between two frames of (H, W) pixels.

    The picture's corners must stay in front of the camera and span a convex quadrangle of the
    same sense of rotation, whose area is between half and twice the picture's.
    """
    height, width = size
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64)
    x, y, depth = homography @ corners.T
    if not (np.isfinite(homography).all() and (depth > 0).all()):
        return False
    x, y = x / depth, y / depth
    side_x, side_y = np.roll(x, -1) - x, np.roll(y, -1) - y
    turns = side_x * np.roll(side_y, -1) - side_y * np.roll(side_x, -1)
    area = float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 / (height * width)
    return bool((turns > 0).all()) and 1 / _LARGEST_AREA_CHANGE < area < _LARGEST_AREA_CHANGE


def sift_features(grey: NDArray[np.uint8]) -> tuple[Points, Points]:
    """Features of an image: sought at half the size in large ones, where they cost a third.

    Args:
        grey: (H, W).

    Returns:
        (N, 2) x and y in pixels of the image, and (N, 128) descriptors.

    Source:
        Lowe 2004, as `cv2.SIFT`.
    """
    scale = 2 if min(grey.shape) >= _HALVED_FROM_PX else 1
    if scale == 2:
        height, width = grey.shape
        # An even size, so that two pixels become exactly one.
        even = grey[: height // 2 * 2, : width // 2 * 2]
        half = (width // 2, height // 2)
        grey = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)
    finder = cv2.SIFT.create(nfeatures=_NUM_FEATURES, enable_precise_upscale=True)
    whole_image: Any = None  # OpenCV's type stubs do not know that there need be no mask
    keypoints, descriptors = finder.detectAndCompute(grey, whole_image)
    if descriptors is None:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    points = points * scale + (scale - 1) / 2  # pixel 0 of the half covers 0 and 1
    return points.astype(np.float32), np.asarray(descriptors, np.float32)


def _images_on_grid(frames: Frames, flow: Flow) -> NDArray[np.uint8]:
    """(T, h, w, 3) frames resized as `optical_flow` did for this flow."""
    if len(frames) != len(flow) + 1:
        raise ShapeError(f"{len(frames)} frames have {len(frames) - 1} fields, got {len(flow)}.")
    images = resize_short_side(frames.data, min(flow.size))
    if images.shape[1:3] != flow.size:
        raise ShapeError(
            f"Flow of {flow.size[1]}x{flow.size[0]} px is not that of frames of "
            f"{frames.size[1]}x{frames.size[0]} px at any short_side."
        )
    return images


def _matches(
    first: Points, first_descriptors: Points, second: Points, second_descriptors: Points
) -> Points:
    """Places of the features that are each other's nearest, (2, M, 2): in both frames."""
    if not len(first) or not len(second):
        return np.empty((2, 0, 2), np.float32)
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    found = matcher.match(first_descriptors, second_descriptors)
    return np.stack((first[[m.queryIdx for m in found]], second[[m.trainIdx for m in found]]))


def _carried_corners(grey: NDArray[np.uint8], field: Points) -> Points:
    """Corners of an image and where the flow brings them, (2, M, 2)."""
    distance = max(3, min(grey.shape) // _CORNER_DISTANCES)
    corners = cv2.goodFeaturesToTrack(grey, _NUM_CORNERS, _CORNER_QUALITY, distance)
    if corners is None:
        return np.empty((2, 0, 2), np.float32)
    corners = np.asarray(corners, np.float32).reshape(-1, 2)
    column, row = corners.astype(np.int64).T  # corners are whole pixels
    return np.stack((corners, corners + field[:, row, column].T))


def _unmasked(matches: Points, masks: NDArray[np.bool_]) -> Points:
    """Matches of which neither end lies on its frame's mask, read at the nearest pixel."""
    height, width = masks.shape[1:]
    columns, rows = np.moveaxis(np.rint(matches).astype(np.int64), 2, 0)  # (2, M) each
    places = rows.clip(0, height - 1), columns.clip(0, width - 1)
    return matches[:, ~masks[np.array([[0], [1]]), *places].any(0)]


def _fit(
    matches: Points,
    size: tuple[int, int],
    threshold_px: float,
    min_matches: int,
    min_inliers: int,
) -> tuple[NDArray[np.float64] | None, float]:
    """Homography, None where there is none to be trusted, and its share of inliers."""
    if matches.shape[1] < max(4, min_matches, min_inliers):
        return None, 0
    found, inliers = cv2.findHomography(matches[0], matches[1], cv2.RANSAC, threshold_px)
    if found is None:
        return None, 0
    homography, ratio = np.asarray(found, np.float64), float(np.mean(inliers != 0))
    is_enough = np.count_nonzero(inliers) >= min_inliers and ratio >= _SMALLEST_INLIER_RATIO
    return (homography if is_enough and is_plausible(homography, size) else None), ratio


def _is_nearer(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    homography: NDArray[np.float64],
    free: NDArray[np.bool_],
) -> bool:
    """Whether warping the second grey image brings it nearer to the first than leaving it does.

    Differences count up to a limit, so that most of the picture decides, and without their
    median, so that a change of brightness does not.
    """
    height, width = first.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(second, homography, (width, height), flags=flags)
    shown = cv2.warpPerspective(np.full_like(second, 255), homography, (width, height), flags=flags)
    compared = free & (shown == 255)
    if not compared.any():
        return False
    errors = []
    for image in (warped, second):
        difference = first[compared].astype(np.float32) - image[compared]
        difference -= np.median(difference)
        errors.append(np.minimum(np.abs(difference), _LARGEST_DIFFERENCE).mean())
    return bool(errors[0] < errors[1])
