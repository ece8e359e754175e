package train

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/internal/atomicfile"
)

// torchStep is a Python process that takes training steps with PyTorch.
type torchStep struct {
	in      io.Writer
	out     *bufio.Scanner
	version string
	peak    int // KiB
}

// python finds an interpreter that has PyTorch.
func python(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import torch").Run() == nil {
			return p
		}
	}
	t.Fatal("PyTorch is not installed: sudo apt-get install python3-torch")
	return ""
}

func startTorch(t *testing.T, batch, threads int) *torchStep {
	t.Helper()
	c := exec.Command(python(t), "testdata/step.py", strconv.Itoa(batch), strconv.Itoa(threads))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Errorf("PyTorch: %v", err)
		}
	})
	s := &torchStep{in: in, out: bufio.NewScanner(out)}
	var parameters int
	if !s.out.Scan() {
		t.Fatal("PyTorch ended before its first step")
	}
	if _, err := fmt.Sscanf(s.out.Text(), "ready %s %d", &s.version, &parameters); err != nil || parameters != 272_474 {
		t.Fatalf("PyTorch says %q, expected 272,474 parameters: %v", s.out.Text(), err)
	}
	return s
}

func (s *torchStep) step(t *testing.T) time.Duration {
	t.Helper()
	if _, err := fmt.Fprintln(s.in); err != nil || !s.out.Scan() {
		t.Fatalf("PyTorch has ended: %v", err)
	}
	var seconds float64
	if _, err := fmt.Sscan(s.out.Text(), &seconds, &s.peak); err != nil {
		t.Fatalf("PyTorch says %q: %v", s.out.Text(), err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// peakKiB returns this process's peak memory.
func peakKiB(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("/proc/self/status has no VmHWM")
	return 0
}

// TestBenchTorch compares the time of a training step with PyTorch's, taking
// steps in turn, and writes the page that THRIFTC_BENCH_TORCH names. `make bench-torch` runs it.
func TestBenchTorch(t *testing.T) {
	file := os.Getenv("THRIFTC_BENCH_TORCH")
	if file == "" {
		t.Skip("a comparison with PyTorch: make bench-torch")
	}
	const batch, threads, warmUp, steps = 128, 2, 3, 25
	ours, exe := resNet20(t, batch, threads)
	defer exe.Close()
	theirs := startTorch(t, batch, threads)
	var a, b []float64
	for i := range warmUp + steps {
		start := time.Now()
		ours()
		mine := time.Since(start)
		other := theirs.step(t)
		if i >= warmUp {
			a, b = append(a, ms(mine)), append(b, ms(other))
		}
	}
	peak := peakKiB(t)
	var text strings.Builder
	fmt.Fprintf(&text, `# One training step against PyTorch

ResNet-20, batch %d, forward, backward and update (SGD, momentum 0.9, Nesterov, weight decay), %d threads, %d steps of each in turn after %d to
warm up, on %s. PyTorch %s lays tensors out in its faster way, channels_last. Peak memory is that of the whole process.
Written by `+"`make bench-torch`"+`.

| | median ms | least ms | images/s | peak memory, MiB |
|---|---|---|---|---|
`, batch, threads, steps, warmUp, cpuName(), theirs.version)
	row := func(name string, x []float64, kib int) (median, least float64) {
		slices.Sort(x)
		median, least = x[len(x)/2], x[0]
		fmt.Fprintf(&text, "| %s | %.0f | %.0f | %.0f | %d |\n", name, median, least, 1000*batch/median, kib/1024)
		return median, least
	}
	m1, l1 := row("thriftc", a, peak)
	m2, l2 := row("PyTorch", b, theirs.peak)
	fmt.Fprintf(&text, "| ratio | %.2f | %.2f | | %.2f |\n", m1/m2, l1/l2, float64(peak)/float64(theirs.peak))
	t.Log("\n" + text.String())
	if err := atomicfile.Write("../"+file, func(w io.Writer) error {
		_, err := io.WriteString(w, text.String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				return fmt.Sprintf("%s, %d cores", strings.TrimSpace(strings.TrimLeft(rest, "\t: ")), runtime.NumCPU())
			}
		}
	}
	return fmt.Sprintf("%s, %d cores", runtime.GOARCH, runtime.NumCPU())
}
