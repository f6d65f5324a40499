# zfarm - six front doors over CMake. `make demo` and `make test` install what is missing, build and run; neither needs a GPU or a network
# beyond Debian's packages.
BUILD  ?= build
PREFIX ?= /usr/local
CMAKE_FLAGS ?=

.PHONY: demo test deps build clean install

demo: build
	@sh tools/demo.sh $(BUILD)/bin

test: build
	@ctest --test-dir $(BUILD) --output-on-failure

deps:
	@sh tools/deps.sh

build: deps
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@cmake --build $(BUILD)

clean:
	@rm -rf $(BUILD) $(BUILD).log out

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)
