# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The network as it comes, and the hooks left in it
#
# Neither eval mode nor `remove()`. Typical of code that works once in a fresh notebook: batch norm
# uses the statistics of the few images, and the hooks pile up.
#
# expected score: 25


# %% replaces="ps2-hooks"
def block_outputs(model, names, images):
    """What modules give for images (N, 3, H, W): a dictionary from name to tensor."""
    outputs = {}
    modules = dict(model.named_modules())
    for name in names:
        modules[name].register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output.clone()})
        )
    with torch.no_grad():
        model(images)
    return outputs
