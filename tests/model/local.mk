# SPDX-License-Identifier: Apache-2.0
# The model of the protocol, checked by spin: README.md there. MODEL="NAME..." runs a part.
EXTRA_DIST += %D%/README.md %D%/run.py %D%/hearth.pml %D%/database.pml %D%/worker.pml %D%/fair.pml %D%/world.pml

CLEANFILES += %D%/results.xml %D%/*/pan* %D%/*/said %D%/*/hearth.pml.trail %D%/*/_spin_nvr.tmp

MODEL =
.PHONY: check-model
check-model:
	$(AM_V_at)command -v $(SPIN) >/dev/null 2>&1 || \
		{ echo "check-model: spin is missing (Debian package spin); the model is not checked" >&2; exit 1; }
	$(AM_V_at)mkdir -p %D%
	$(AM_V_at)PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/%D%/run.py $(srcdir)/%D% %D% $(MODEL)
