# Everything a developer runs. `make test` needs Go only; the parts that need
# more (node with npm, for ONNX Runtime) say so loudly when it is missing.

SHELL       := bash
GO          ?= go
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test check golden generate schemas conformance differential cases mutants random-graphs accept accept-ci fuzz arm64 bench bench-ptq bench-quantize bench-parity bench-ort bench-ort-int8 bench-levels bench-mux testmodels bench-torch bench-train bench-bitpruning ort module clean

build: ## build the one static binary, bin/thriftc
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/thriftc ./cmd/thriftc

test: ort ## all tests of a clean checkout
	$(GO) test ./...

check: ## formatting, vet, staticcheck, import rules, tidy modules, generated files
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -run 'TestImportRules|TestViolationsAreSeen' .
	$(GO) mod tidy -diff
	$(GO) generate ./...
	@git diff --exit-code --stat -- '*.pb.go' '*_amd64.s' '*_gen.go' || { echo "generated files are not up to date: commit what go generate wrote"; exit 1; }

golden: ## rewrite the golden files of the pass tests; read the diff afterwards
	$(GO) test ./passes/... -update

generate: ## regenerate protobuf code and assembly
	$(GO) generate ./...

PYTHON ?= python3
schemas: ## the table of every version of every ONNX operator, from the onnx package of PYTHON
	@$(PYTHON) -c 'import onnx' || { echo "*** the onnx package is not installed: pip install onnx==1.23.2, or give PYTHON=… ***" >&2; exit 1; }
	$(PYTHON) internal/onnxschema/schemas.py > internal/onnxschema/schemas.tmp
	mv internal/onnxschema/schemas.tmp internal/onnxschema/schemas.txt

# Each reader stands in an environment with the packages that it was tried with.
ACCEPT = $(CURDIR)/.cache/accept
ACCEPT_onnx     = onnx==1.23.2 onnxruntime==1.31.1
ACCEPT_qonnx    = qonnx==1.0.0 hls4ml==1.3.0 onnx==1.21.0 onnxruntime==1.31.1
ACCEPT_finn     = finn-plus==1.6.1
ACCEPT_runtimes = onnx==1.23.2 onnxruntime==1.31.1 onnxsim==0.8.1 onnxslim==0.1.98 openvino==2026.4.0 tract==0.23.9
$(ACCEPT)/%/installed:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "*** Python 3 with venv is not installed: NO reader is tried (Debian: apt-get install python3-venv) ***" >&2; exit 1; }
	rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check $(ACCEPT_$*)
	touch $@

READ_CI = checker=$(ACCEPT)/onnx/bin/python onnxruntime=$(ACCEPT)/onnx/bin/python qonnx=$(ACCEPT)/qonnx/bin/python hls4ml=$(ACCEPT)/qonnx/bin/python
accept-ci: $(ACCEPT)/onnx/installed $(ACCEPT)/qonnx/installed ## files in every dialect, read by onnx's checker, ONNX Runtime, qonnx and hls4ml (with g++)
	$(GO) run ./internal/accept -python '$(READ_CI)'

READ = finn-plus=$(ACCEPT)/finn/bin/python onnxsim=$(ACCEPT)/runtimes/bin/python onnxslim=$(ACCEPT)/runtimes/bin/python openvino=$(ACCEPT)/runtimes/bin/python tract=$(ACCEPT)/runtimes/bin/python
accept: $(foreach e,onnx qonnx finn runtimes,$(ACCEPT)/$(e)/installed) ## the same with FINN+, onnxsim, onnxslim, OpenVINO and tract, into docs/results/accept.md; half an hour; ONLY= is a pattern of file names
	$(GO) run ./internal/accept -only '$(ONLY)' -python '$(READ_CI) $(READ)' -out docs/results/accept.md

FUZZTIME ?= 10s
LAYOUTS  ?= 20000
fuzz: ## every fuzz target for FUZZTIME each; LAYOUTS random graphs on the engine, from seed SEED on
	$(GO) test -count=1 -timeout 24h -run 'TestRandomLayouts$$' ./backends/interp -random-layouts $(LAYOUTS) -random-first $(SEED)
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "fuzz $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; \
	done

MODULE ?=
module: ## give this module another path, MODULE=example.com/you/thriftc: in go.mod, imports and the pages that name it
	@test -n "$(MODULE)" || { echo "say MODULE=PATH" >&2; exit 2; }
	@old=$$($(GO) list -m) && \
	git ls-files -z '*.go' '*go.mod' README.md docs/library.md | xargs -0 sed -i "s#$$old#$(MODULE)#g" && \
	git ls-files -z '*.go' | xargs -0 gofmt -w && \
	$(GO) build ./... && echo "$$old is now $(MODULE)"

ort: ## install ONNX Runtime, which the tests hold our files against
	@if command -v npm >/dev/null; then \
	  cd internal/ort && { [ -d node_modules/onnxruntime-node ] || npm ci --ignore-scripts --no-audit --no-fund; }; \
	else \
	  echo "*** npm is not installed: what needs ONNX Runtime is NOT checked ***" >&2; \
	fi

conformance: ort ## the official ONNX suites and real models, a table for each; needs their files beside the checkout
	$(GO) test -count=1 -v ./ir/onnxio/conformance | grep -v -e '--- PASS' -e '=== ' ; exit $${PIPESTATUS[0]}

DIFF_NODES ?= 200
DIFF_OPS   ?= *
differential: ort ## random nodes of 167 operators over attributes, shapes, types and opsets against ONNX Runtime, which the official suite is not made by; DIFF_NODES= of each operator, DIFF_OPS= pattern, SEED= the first
	$(GO) test -count=1 -timeout 6h -run 'TestDifferential$$' -v ./ir/onnxio/conformance -diff-nodes $(DIFF_NODES) -diff-ops '$(DIFF_OPS)' -diff-seed $(SEED)

cases: ort ## models written by other tools and small ones that once failed, as a user runs them; needs their files beside the checkout
	$(GO) test -count=1 -run 'TestCases$$|TestPeers$$|TestEmbeddingReport$$' ./cmd/thriftc -cases

MUTANTS ?= 100000
MUTANTS_FROM ?= testmodels
SEED ?= 1
mutants: ## damages models at random and runs commands on them: none may panic, die, take 1 GB or 10 s; MUTANTS= how many, MUTANTS_FROM= folder of models, SEED=
	$(GO) test -count=1 -timeout 24h -run 'TestMutants$$' ./cmd/thriftc -mutants $(MUTANTS) -mutants-seed $(SEED) -mutants-from $(abspath $(MUTANTS_FROM))

# Peers in Python, pinned, for targets that hold our files against them.
.cache/ort-1.31.1:
	@command -v python3 >/dev/null || { echo "*** python3 is not installed: NOTHING is checked against ONNX Runtime 1.31.1 ***" >&2; exit 1; }
	python3 -m venv $@ && $@/bin/pip install -q onnxruntime==1.31.1 numpy || { rm -rf $@; exit 1; }

GRAPHS ?= 100000
random-graphs: .cache/ort-1.31.1 ## random graphs, in float and compressed, against ONNX Runtime 1.31.1: every file loads and gives our numbers; GRAPHS= how many, SEED= of the first
	$(GO) test -count=1 -timeout 24h -run 'TestRandomGraphs$$' -v ./cmd/thriftc -random-python $(CURDIR)/.cache/ort-1.31.1/bin/python -random-graphs $(GRAPHS) -random-first $(SEED)

# Emulated tests of the engine that take minutes, or measure time and memory.
ARM64_SKIP = JoinAndCut|ConvChains|ConvGradients|Arena|Models|Allocates|CancelledRun|TestWinograd$$|WinogradNodes|WinogradError
arm64: ## the program builds for arm64, no product is fused there, and the kernels' tests pass under qemu-user
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/thriftc
	THRIFTC_ARM64=1 $(GO) test -count=1 -run TestNoFusedProducts .
	@if command -v qemu-aarch64-static >/dev/null; then \
	  GOARCH=arm64 CGO_ENABLED=0 $(GO) test -short -timeout 20m -exec qemu-aarch64-static -skip '$(ARM64_SKIP)' ./internal/f32 ./backends/interp/...; \
	else \
	  echo "*** qemu-aarch64-static is not installed: arm64 is built but NOT tested (Debian: apt-get install qemu-user-static) ***" >&2; \
	fi

bench: ## go benchmarks of the engine
	$(GO) test -run '^$$' -bench . -benchtime 1s ./backends/...

bench-parity: ort ## our interpreter against ONNX Runtime on the same quantised files, node by node
	$(GO) test -count=1 -v -run 'Parity|Agree' ./backends/onnx

BENCH_ORT = $(GO) test -count=1 -v -timeout 120m -run 'TestBenchORT$$' ./cmd/thriftc $(if $(QUICK),-bench-ort-quick) $(if $(CPU),-bench-ort-cpu) $(if $(BATCH),-bench-ort-batch $(BATCH)) $(if $(ONLY),-bench-ort-only $(ONLY))
ORT_RESULTS = docs/results/ort-$(1)$(if $(CPU),-cpu).md
bench-ort: ort ## thriftc against ONNX Runtime in turn on real models, into docs/results/ort-f32.md; a quarter of an hour, QUICK=1 for less; CPU=1: processor time of one thread, where there is other work; BATCH=, ONLY=: a part
	$(BENCH_ORT) -bench-ort f32 -bench-ort-out $(CURDIR)/$(call ORT_RESULTS,f32)
	@tail -n 1 $(call ORT_RESULTS,f32)

bench-ort-int8: ort ## the same on quantised models, into docs/results/ort-int8.md
	$(BENCH_ORT) -bench-ort int8 -bench-ort-out $(CURDIR)/$(call ORT_RESULTS,int8)
	@tail -n 1 $(call ORT_RESULTS,int8)

bench-levels: ## every model beside the checkout with integers, with quantised floats and without quantisers in turn, into docs/results/levels.md; QUICK=1 for less, ONLY=: a part
	$(GO) test -count=1 -timeout 60m -run 'TestBenchLevels$$' ./cmd/thriftc $(if $(QUICK),-bench-ort-quick) $(if $(ONLY),-bench-levels-only $(ONLY)) -bench-levels $(CURDIR)/docs/results/levels.md
	@tail -n 1 docs/results/levels.md

bench-mux: ort ## ResNet-20 with one weight per kernel slice against its dense twin and ONNX Runtime, into docs/results/mux.md; QUICK=1 for less
	$(GO) test -count=1 -timeout 60m -run 'TestBenchMux$$' ./cmd/thriftc $(if $(QUICK),-bench-ort-quick) -bench-mux $(CURDIR)/docs/results/mux.md

bench-ptq: ort ## accuracy after quantisation of real models, into docs/results/ptq.md; takes a quarter of an hour
	THRIFTC_MEASURE_PTQ=docs/results/ptq.md $(GO) test -run 'TestMeasure$$' -timeout 60m -v ./passes/quantize

.cache/quantize-1.31.1:
	@command -v python3 >/dev/null || { echo "*** python3 is not installed: NOTHING is measured against ONNX Runtime 1.31.1 ***" >&2; exit 1; }
	python3 -m venv $@ && $@/bin/pip install -q onnxruntime==1.31.1 onnx==1.23.2 numpy || { rm -rf $@; exit 1; }

ROUNDS ?= 5
bench-quantize: .cache/quantize-1.31.1 ## time and peak memory of compress against ONNX Runtime's quantize_static in turn, into docs/results/quantize-speed.md; ROUNDS= of each
	$(GO) test -count=1 -timeout 60m -v -run 'TestBenchQuantize$$' ./cmd/thriftc -bench-quantize $(CURDIR)/docs/results/quantize-speed.md \
	  -bench-quantize-python $(CURDIR)/.cache/quantize-1.31.1/bin/python -bench-quantize-rounds $(ROUNDS)

testmodels: ## train the small model in testmodels/ again; always the same bytes
	$(GO) run ./testmodels/gen

bench-torch: ## one training step of ResNet-20 against PyTorch in turn, into docs/results/train-step.md
	@python3 -c 'import torch' 2>/dev/null || /usr/bin/python3 -c 'import torch' 2>/dev/null || \
	  { echo "*** PyTorch is not installed: sudo apt-get install python3-torch ***" >&2; exit 1; }
	THRIFTC_BENCH_TORCH=docs/results/train-step.md $(GO) test -count=1 -run 'TestBenchTorch$$' -v ./train

CIFAR  ?= cifar-10-batches-bin
BUDGET ?= 45m
bench-train: ## ResNet-20 on CIFAR-10 from scratch in BUDGET, into docs/results/resnet20-BUDGET.md; CIFAR is the folder of the binary version
	THRIFTC_BENCH_TRAIN=$(abspath $(CIFAR)) THRIFTC_BENCH_BUDGET=$(BUDGET) $(GO) test -count=1 -run 'TestBenchTrain$$' -timeout 3h -v ./cmd/thriftc

MODELS ?= models
ROWS   ?=
bench-bitpruning: ort ## learned bit lengths and uniform baselines, BUDGET each (say 38m), into docs/results/bitpruning-BUDGET.md; repeat it to go on; ROWS is a pattern, as in 'resnet20 target'; MODELS holds resnet20/ and mlperf_resnet8/
	THRIFTC_BENCH_BITS=$(abspath $(CIFAR)) THRIFTC_BENCH_MODELS=$(abspath $(MODELS)) THRIFTC_BENCH_BUDGET=$(BUDGET) THRIFTC_BENCH_ROWS='$(ROWS)' \
	  $(GO) test -count=1 -run 'TestBenchBits$$' -timeout 24h -v ./cmd/thriftc

clean:
	rm -rf bin
