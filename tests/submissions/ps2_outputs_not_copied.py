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
# # The output kept, not a copy
#
# The hook stores the tensor that it was given, and the in-place ReLU after it overwrites it. Typical,
# and invisible at η = 0, where ReLU changes no sublevel set.
#
# expected score: 26


# %% replaces="ps2-hooks"
def block_outputs(model, names, images):
    """What modules give for images (N, 3, H, W): a dictionary from name to tensor."""
    outputs, handles = {}, []
    modules = dict(model.named_modules())
    for name in names:

        def hook(module, inputs, output, name=name):
            outputs[name] = output

        handles.append(modules[name].register_forward_hook(hook))
    model.eval()
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return outputs
