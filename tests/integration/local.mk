# SPDX-License-Identifier: Apache-2.0
# A story is one file; make dist takes what is named here.
INTEGRATION_FILES = %D%/conftest.py %D%/harness.py %D%/pytest.ini $(INTEGRATION_STORIES)
INTEGRATION_STORIES = %D%/test_happy_path.py
EXTRA_DIST += $(INTEGRATION_FILES)

# STORIES="test_happy_path.py -k word" runs a part; pytest's last line has the counts, results.xml the cases.
.PHONY: check-integration
check-integration: all
	mkdir -p $(builddir)/%D%
	cd $(srcdir)/%D% && HEARTH_BUILD=$(abs_builddir) PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) -m pytest \
		--junitxml=$(abs_builddir)/%D%/results.xml $(STORIES)
