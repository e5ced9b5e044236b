"""The engine's speed as ratios in one run: against the forward pass, and against CubicalRipser.

`make bench`. ResNet-18 with random weights at 256 x 256, all 11 block outputs, one threshold.
Absolute times depend on the machine and its load; the three are interleaved, so that both ratios
see the same load.
"""

import time

import cripser
import numpy as np
import torch
from tqdm import tqdm

from topo_utils import betti_numbers, load_model, model_blocks


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main():
    torch.manual_seed(0)
    model = load_model("resnet18", weights="random")
    image = torch.randn(1, 3, 256, 256)
    captured = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: captured.update({name: output[0].clone()})
        )
        for name in model_blocks(model)
    ]
    forward = torch.inference_mode()(model)
    forward(image)
    for hook in hooks:
        hook.remove()
    volumes = [volume.numpy() for volume in captured.values()]

    def engine():
        for volume in volumes:
            betti_numbers(volume, 0.0)

    engine()  # compiles it, once per installation
    pairs = [(seconds(forward, image), seconds(engine)) for _ in range(20)]
    torch.set_num_threads(1)
    single = [(seconds(forward, image), seconds(engine)) for _ in range(10)]

    # CubicalRipser takes minutes for the large volumes: each once, with the engine beside it.
    ratios, total, ours = [], 0.0, 0.0
    for volume in tqdm(volumes, desc="CubicalRipser", leave=False):
        wide = volume.astype(np.float64)
        theirs = seconds(cripser.computePH, wide)
        betti_numbers(volume, 0.0)  # the other one has emptied the processor's caches
        own = np.median([seconds(betti_numbers, volume, 0.0) for _ in range(9)])
        ratios.append(theirs / own)
        total, ours = total + theirs, ours + own

    def show(text, value):
        print(f"{text:<62}{value:8.2f}")

    print(f"ResNet-18, 256 x 256, {len(volumes)} block outputs, one threshold, {torch.__version__}")
    show("engine / forward pass (torch's default threads)", median_ratio(pairs))
    show("engine / forward pass (one thread each)", median_ratio(single))
    show("CubicalRipser / engine, all volumes", total / ours)
    show("CubicalRipser / engine, median of the volumes", float(np.median(ratios)))
    show("CubicalRipser / engine, least of the volumes", min(ratios))


def median_ratio(pairs):
    return float(np.median([engine / forward for forward, engine in pairs]))


if __name__ == "__main__":
    main()
