package thriftc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The compiler for arm64 makes one instruction of x*y + z, which rounds once
// where amd64 rounds twice. In the packages whose arithmetic must give the same bits
// everywhere products are converted, as in float32(x*y) + z, which forbids it. A line where
// it is meant says FMA, one where it makes no difference says exact.
func TestNoFusedProducts(t *testing.T) {
	if os.Getenv("THRIFTC_ARM64") == "" {
		t.Skip("compiles for arm64: make arm64")
	}
	list, err := exec.Command("go", "list", "-f", "{{if .GoFiles}}{{.ImportPath}}{{end}}", "./ir/...", "./backends/...", "./internal/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	fused := regexp.MustCompile(`\((` + regexp.QuoteMeta(root) + `[^:()]*\.go):(\d+)\)\tFN?M(ADD|SUB)[SD]\t`)
	seen := map[string]bool{}
	meant := 0
	for _, pkg := range strings.Fields(string(list)) {
		if strings.HasSuffix(pkg, "/irtest") { // tests only
			continue
		}
		build := exec.Command("go", "build", "-o", os.DevNull, "-gcflags=-S", pkg)
		build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v", pkg, err)
		}
		for _, m := range fused.FindAllStringSubmatch(string(out), -1) {
			if seen[m[1]+m[2]] {
				continue
			}
			seen[m[1]+m[2]] = true
			src, err := os.ReadFile(m[1])
			if err != nil {
				t.Fatal(err)
			}
			at, _ := strconv.Atoi(m[2])
			line := strings.Split(string(src), "\n")[at-1]
			if strings.Contains(line, "FMA(") || strings.Contains(line, "exact") {
				meant++
				continue
			}
			name, _ := filepath.Rel(root, m[1])
			t.Errorf("%s:%d: a product is fused with a sum: %s", name, at, strings.TrimSpace(line))
		}
	}
	if meant == 0 {
		t.Error("no fused product was found at all, though math.FMA is used")
	}
}
