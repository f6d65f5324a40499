# zfarm - six front doors over CMake. `make demo` and `make test` install what is missing, build and run; neither needs a GPU or a network
# beyond Debian's packages.
BUILD  ?= build
PREFIX ?= /usr/local
CMAKE_FLAGS ?=

.PHONY: demo test deps build clean install configure

demo: build
	@sh tools/demo.sh $(BUILD)/bin

test: configure
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure

deps:
	@sh tools/deps.sh

build: configure
	@cmake --build $(BUILD) --target zfarm zfarm-broker zfarm-worker zfarm-model zfarm-keys zfarm-bench

configure: deps
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

clean:
	@rm -rf $(BUILD) $(BUILD).log out

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)
