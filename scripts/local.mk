# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/quickstart %D%/check %D%/lint %D%/lib.sh %D%/json.sh %D%/install-packages %D%/openai-client %D%/count-results.py .ci/run

.PHONY: lint
lint:
	cd $(srcdir) && ./scripts/lint
