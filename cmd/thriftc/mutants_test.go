package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/thriftc/thriftc/internal/onnxpb"
)

var (
	mutantsFlag = flag.Int("mutants", 300, "how many mutated models TestMutants tries")
	mutantSeed  = flag.Uint64("mutants-seed", 1, "seed of the mutations")
	mutantsFrom = flag.String("mutants-from", "../../testmodels", "folder below which models are taken to be mutated, up to 300 kB each")
	mutantsKeep = flag.String("mutants-keep", "", "folder for the mutants that fail; a temporary one if not given")
)

const (
	mutantTime   = 10 * time.Second
	mutantMemory = 1 << 30 // bytes of resident memory that a mutant may add
)

// TestMutants runs commands on models that were damaged at random: fields of the
// file changed, removed, repeated or swapped, or bytes of it. Whatever is done to a
// model, it is read or refused in words: no panic, caught or not, no signal, no more than
// mutantMemory, no longer than mutantTime a command. A child process does the work, so
// that its death is seen and named.
func TestMutants(t *testing.T) {
	if os.Getenv("THRIFTC_MUTANT") != "" {
		mutantChild()
		return
	}
	keep := *mutantsKeep
	if keep == "" {
		keep = t.TempDir()
	}
	kinds := map[string]int{}
	for first := 0; first < *mutantsFlag; {
		c := exec.Command(os.Args[0], "-test.run=^TestMutants$", "-test.timeout=0",
			fmt.Sprint("-mutants=", *mutantsFlag), fmt.Sprint("-mutants-seed=", *mutantSeed), "-mutants-from="+*mutantsFrom, "-mutants-keep="+keep)
		c.Env = append(os.Environ(), fmt.Sprint("THRIFTC_MUTANT=", first))
		out, err := c.CombinedOutput()
		done := first
		for line := range strings.Lines(string(out)) {
			var r mutantResult
			if text, ok := strings.CutPrefix(line, "mutant "); ok && json.Unmarshal([]byte(text), &r) == nil {
				done = max(done, r.Index+1)
				if r.Fault != "" {
					kinds[r.Fault]++
					if kinds[r.Fault] <= 3 {
						t.Errorf("mutant %d of %s: %s\n  kept as %s", r.Index, r.Seed, r.Fault, r.File)
					}
				}
			}
		}
		if err == nil {
			break
		}
		// The child died on the mutant after the last that it reported.
		text := string(out)
		t.Errorf("mutant %d ended the process: %v\n%s", done, err, text[max(0, len(text)-2000):])
		first = done + 1
	}
	for kind, n := range kinds {
		t.Logf("%6d × %s", n, kind)
	}
}

type mutantResult struct {
	Index             int
	Seed, Fault, File string
}

// mutantChild tries the mutants from THRIFTC_MUTANT on and reports each with a line.
func mutantChild() {
	var first int
	fmt.Sscan(os.Getenv("THRIFTC_MUTANT"), &first)
	var seeds []string
	filepath.WalkDir(*mutantsFrom, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".onnx") {
			if info, err := d.Info(); err == nil && info.Size() <= 300<<10 {
				seeds = append(seeds, path)
			}
		}
		return nil
	})
	dir, err := os.MkdirTemp("", "thriftc-mutants-")
	if err != nil || len(seeds) == 0 {
		fmt.Println("no models below", *mutantsFrom, err)
		os.Exit(1)
	}
	defer os.RemoveAll(dir)
	for i := first; i < *mutantsFlag; i++ {
		r := rand.New(rand.NewPCG(*mutantSeed, uint64(i)))
		seed := seeds[r.IntN(len(seeds))]
		data, err := os.ReadFile(seed)
		if err != nil {
			continue
		}
		data = mutate(r, data)
		file := filepath.Join(dir, "m.onnx")
		os.WriteFile(file, data, 0o600)
		res := mutantResult{Index: i, Seed: filepath.Base(filepath.Dir(seed)) + "/" + filepath.Base(seed), Fault: tryMutant(file, dir)}
		if res.Fault != "" {
			res.File = filepath.Join(*mutantsKeep, fmt.Sprintf("mutant-%d-%d.onnx", *mutantSeed, i))
			os.WriteFile(res.File, data, 0o600)
		}
		line, _ := json.Marshal(res)
		fmt.Printf("mutant %s\n", line)
	}
}

// mutantFault recognises what must not be said to a user, and mutantNumbers what
// tells one instance of a fault from another.
var (
	mutantFault   = regexp.MustCompile(`(?i)(panic|runtime error|goroutine \d|kernel failed|nil pointer|malformed node|index out of range|slice bounds)[^\n]*`)
	mutantNumbers = regexp.MustCompile(`0x[0-9a-f]+|\d+`)
)

// tryMutant runs the commands that read a model, and returns what is wrong with how they end.
func tryMutant(file, dir string) string {
	out := filepath.Join(dir, "out")
	for _, args := range [][]string{
		{"check", file},
		{"inspect", file},
		{"compress", file, "-o", out, "--threads", "1"},
		{"opt", file, "--passes", "fold,dce", "-o", filepath.Join(dir, "o.onnx")},
		{"bench", file, "--runs", "1", "--threads", "1"},
	} {
		os.RemoveAll(out)
		before := resident()
		var o, e bytes.Buffer
		limit := mutantTime
		if args[0] == "bench" { // runs the model, which may ask for any number of products: it must end when told to
			limit = 2 * time.Second
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		start := time.Now()
		code := run(ctx, args, &o, &e)
		cancel()
		if took := time.Since(start); took > mutantTime || args[0] == "bench" && took > limit+time.Second {
			return args[0] + ": takes too long"
		}
		if more := resident() - before; more > mutantMemory {
			return args[0] + ": takes too much memory"
		}
		text := o.String() + e.String()
		if m := mutantFault.FindString(text); m != "" {
			return args[0] + ": " + mutantNumbers.ReplaceAllString(m[:min(len(m), 160)], "N")
		}
		if ctx.Err() != nil && code == exitCancelled {
			continue
		}
		if code < 0 || code > exitDiffer {
			return fmt.Sprintf("%s: exit code %d", args[0], code)
		}
		if code != 0 && strings.TrimSpace(text) == "" {
			return args[0] + ": fails without a word"
		}
		if len(text) > 64<<10 {
			return args[0] + ": says more than 64 kB"
		}
	}
	return ""
}

// resident returns the most memory that this process has had since the last call, in bytes.
func resident() int {
	const status, clear = "/proc/self/status", "/proc/self/clear_refs"
	text, err := os.ReadFile(status)
	if err != nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.Sys)
	}
	os.WriteFile(clear, []byte("5"), 0o200)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kB int
	fmt.Sscan(rest, &kB)
	return kB << 10
}

// mutate damages a model in one to four places.
func mutate(r *rand.Rand, data []byte) []byte {
	if r.IntN(4) == 0 {
		return mutateBytes(r, data)
	}
	m := &onnxpb.ModelProto{}
	if proto.Unmarshal(data, m) != nil {
		return mutateBytes(r, data)
	}
	for range 1 + r.IntN(4) {
		var fields []mutantField
		walkFields(m.ProtoReflect(), &fields)
		if len(fields) == 0 {
			break
		}
		mutateField(r, fields[r.IntN(len(fields))], fields)
	}
	out, err := proto.Marshal(m)
	if err != nil { // a string that is not UTF-8 was cut
		return mutateBytes(r, data)
	}
	return out
}

func mutateBytes(r *rand.Rand, data []byte) []byte {
	data = bytes.Clone(data)
	for range 1 + r.IntN(4) {
		if len(data) == 0 {
			break
		}
		at := r.IntN(len(data))
		switch r.IntN(4) {
		case 0:
			data[at] ^= 1 << r.IntN(8)
		case 1:
			data[at] = byte(r.Uint32())
		case 2:
			data = data[:at]
		case 3:
			end := min(len(data), at+r.IntN(64))
			data = append(data[:at:at], append(bytes.Clone(data[at:end]), data[at:]...)...)
		}
	}
	return data
}

// mutantField is one field, set or not, of one message of a model.
type mutantField struct {
	m protoreflect.Message
	f protoreflect.FieldDescriptor
}

// walkFields lists the fields that are set, of a message and all below it.
func walkFields(m protoreflect.Message, out *[]mutantField) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		*out = append(*out, mutantField{m, f})
		if f.Message() == nil {
			continue
		}
		if f.IsList() {
			for l, k := m.Get(f).List(), 0; k < l.Len(); k++ {
				walkFields(l.Get(k).Message(), out)
			}
		} else {
			walkFields(m.Get(f).Message(), out)
		}
	}
}

func mutateField(r *rand.Rand, at mutantField, all []mutantField) {
	m, f := at.m, at.f
	if r.IntN(8) == 0 {
		m.Clear(f)
		return
	}
	if !f.IsList() {
		if f.Message() == nil {
			m.Set(f, mutantScalar(r, f, m.Get(f), all))
		}
		return
	}
	l := m.Mutable(f).List()
	switch k := r.IntN(l.Len()); r.IntN(5) {
	case 0: // remove one
		for ; k+1 < l.Len(); k++ {
			l.Set(k, l.Get(k+1))
		}
		l.Truncate(l.Len() - 1)
	case 1: // repeat one
		l.Append(l.Get(k))
	case 2: // swap two
		j := r.IntN(l.Len())
		a, b := l.Get(k), l.Get(j)
		l.Set(k, b)
		l.Set(j, a)
	default:
		if f.Message() == nil {
			l.Set(k, mutantScalar(r, f, l.Get(k), all))
		}
	}
}

var mutantInts = []int64{0, 1, -1, 2, 3, 7, 8, 16, 64, 255, 1 << 16, 1 << 31, 1<<31 - 1, -1 << 31, math.MaxInt64, math.MinInt64, 1 << 40}

func mutantScalar(r *rand.Rand, f protoreflect.FieldDescriptor, old protoreflect.Value, all []mutantField) protoreflect.Value {
	number := mutantInts[r.IntN(len(mutantInts))]
	switch f.Kind() {
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(30)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32([]int64{number, int64(r.IntN(30))}[r.IntN(2)]))
	case protoreflect.Int64Kind:
		if r.IntN(2) == 0 {
			return protoreflect.ValueOfInt64(old.Int() + int64(r.IntN(5)) - 2)
		}
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32([]float32{0, 1, -1, float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32, 1e-45}[r.IntN(7)])
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{0, 1, -1, math.NaN(), math.Inf(1), math.MaxFloat64}[r.IntN(6)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(mutateBytes(r, old.Bytes()))
	case protoreflect.StringKind:
		var strs []string
		for _, o := range all {
			if o.f.Kind() == protoreflect.StringKind && !o.f.IsList() {
				strs = append(strs, o.m.Get(o.f).String())
			} else if o.f.Kind() == protoreflect.StringKind {
				if l := o.m.Get(o.f).List(); l.Len() > 0 {
					strs = append(strs, l.Get(r.IntN(l.Len())).String())
				}
			}
		}
		return protoreflect.ValueOfString(append(strs, "", "x")[r.IntN(len(strs)+2)])
	}
	return old
}
