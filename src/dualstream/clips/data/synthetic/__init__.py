"""A small data set whose classes need both streams: real H.264 files, rendered from a seed.

A class is a pair (look, motion). Every number of a scene (background, silhouette, size, path,
camera shake, hue, phases) is drawn from (seed, index) alone, and each scene is rendered once for
each of the 16 classes: a fully crossed experiment. Two exact properties bound the streams:

- A motion is an order of pictures. A scene is a cycle of T still pictures, the sprite at T
  equally spaced places of a circle; each picture has its own camera shake and background
  offset. The motions walk through the same T pictures in different orders. So the frames of a
  scene are the same for all motions, bit for bit, and single frames know the look only: top-1
  is at most 1 / num_motions. With time shuffled nothing of the motion is left, whatever looks
  at however many frames.
- A look is a pattern of colour without luminance. The luminance of a pixel is the same for all
  looks (to rounding, and to what the encoder adds), so flow from luminance is the same too, and
  the temporal stream knows the motion only: top-1 is at most 1 / num_looks. With
  `blank_texture` the looks are the same, bit for bit.

Both together know the class. The direction around the circle is drawn for each scene, so a
mirrored video keeps its class: flips and ten-crop views are allowed. Shake and background offset
are independent from picture to picture: a smooth drift would date the pictures, and shuffled ones
could be put in order.
"""

from dualstream.clips.data.synthetic.files import RenderedVideo as RenderedVideo
from dualstream.clips.data.synthetic.files import render_synthetic as render_synthetic
from dualstream.clips.data.synthetic.render import LOOKS as LOOKS
from dualstream.clips.data.synthetic.render import MOTIONS as MOTIONS
from dualstream.clips.data.synthetic.render import SyntheticSpec as SyntheticSpec
from dualstream.clips.data.synthetic.render import class_names as class_names
from dualstream.clips.data.synthetic.render import render_video as render_video
