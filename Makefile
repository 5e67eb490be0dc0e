# make demo        show mbuild at work on this machine
# make test        vet, unit tests, and the scripts against real registries
# make build       bin/mbuild
# make install     into $(DESTDIR)$(PREFIX)/bin
# make lint        gofmt, vet, staticcheck
# make check       lint and test
# make bench       benchmarks of the packages
# make fuzz        every fuzz target for FUZZTIME each
# make cross       build for every architecture
# make conformance the cases of CASES (a folder with the runner `run` and `make-bases`)

GO         ?= go
PREFIX     ?= /usr/local
FUZZTIME   ?= 10s
CASES      ?= ../shared/conformance
ARCHES     ?= amd64 arm64 arm riscv64 ppc64le s390x 386 mips64le loong64
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Administrators' programs and the usual place of Go are not on everybody's PATH.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
export CGO_ENABLED := 0

.PHONY: demo test build install lint check bench fuzz cross conformance clean

demo:
	@integration/install-tools demo
	@$(MAKE) -s build
	@$(GO) run ./integration/demo -mbuild bin/mbuild

test:
	@integration/install-tools test
	$(GO) vet ./...
	$(GO) test -timeout 30m ./...

build:
	$(GO) build -trimpath -o bin/mbuild ./cmd/mbuild

install: build
	install -D -m 755 bin/mbuild $(DESTDIR)$(PREFIX)/bin/mbuild

lint:
	@unformatted=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

check: lint test

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

cross:
	@for a in $(ARCHES); do \
		GOOS=linux GOARCH=$$a $(GO) build -trimpath -o /dev/null ./cmd/mbuild || exit 1; echo "built for linux/$$a"; \
	done

conformance: build
	@integration/conformance $(CASES) bin/mbuild

clean:
	rm -rf bin
