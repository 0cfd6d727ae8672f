"""A script that samples from an oracle, and from a run, with only the core dependencies.

It imports no other test module, so that it also runs where only a wheel of jaxdiff is installed.
"""

import argparse
import sys

STD, N = 0.5, 4096


class Hiding:
    """A module finder that no longer finds some packages."""

    def __init__(self, finder, hidden):
        self.finder, self.hidden = finder, hidden

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.hidden:
            return None
        return self.finder.find_spec(name, path, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", nargs="*", default=[], help="packages to hide")
    parser.add_argument("--workdir", help="of a run to load and to sample from")
    arguments = parser.parse_args()
    sys.meta_path[:] = [Hiding(finder, arguments.without) for finder in sys.meta_path]

    import jax
    import jax.numpy as jnp

    import jaxdiff
    from jaxdiff import oracles, processes, schedules, solvers

    mean = jnp.array([1.0, -2.0])

    @jax.jit
    def draw(key):
        process = processes.VP(beta_min=0.1, beta_max=20.0)
        denoise_fn = oracles.gaussian(process, mean, STD**2 * jnp.eye(2))
        prior_key, solver_key = jax.random.split(key)
        x = processes.sample_prior(prior_key, process, (N, 2))
        times = schedules.logistic_times(process, 20)
        return jaxdiff.sample(solver_key, solvers.deis(denoise_fn, process), x, times)

    x = draw(jax.random.key(0))
    errors = (
        jnp.abs(x.mean(0) - mean) / (STD / N**0.5),
        jnp.abs(x.std(0) - STD) / (STD / (2 * N) ** 0.5),
    )
    assert max(map(jnp.max, errors)) < 5, errors  # in standard errors
    print(jaxdiff.__version__, jaxdiff.__file__)
    assert not sys.modules.keys() & set(arguments.without)
    if arguments.workdir:
        print(float(jaxdiff.load(arguments.workdir).sample(jax.random.key(0), 4).sum()))


if __name__ == "__main__":
    main()
