"""How several workers are one search.

A worker is a process that runs trials of a study. It shares nothing with the others
but the study and, where they see the same one, a folder. `patient` is a storage that
waits while its server is away. `folder` says which workers of a folder are alive;
`pulse` is the sign of life of a trial, and finds those that have none. `queue` decides
which trial is next, from the numbers that the storage gives out, so that exactly as
many count as the budget has, none is lost and none counts twice.

On one machine `pool` starts processes and watches over them: `parcel` carries a search
to them, `process` is what they run, `resources` shares out cores, devices and memory.
"""
