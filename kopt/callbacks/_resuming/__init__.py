"""How a run that was cut off goes on: what is kept of it, and how it comes back.

`container` writes a tree of values and arrays as one file, whole or not at all.
`variables` reads and sets all that training moves; `random_states` the generators of
Python, NumPy and TensorFlow; `py_datasets` data sets in Python that change from epoch
to epoch. `identity` has what tells one run from another, and `checks` what is refused.
`run` puts them together with the state of callbacks (`kopt._callback_state`) and the
place in the data, which `kopt._keras.fit_data` goes back to.
"""
