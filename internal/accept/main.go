// Accept makes small models, compresses each in every dialect and several widths, hands the
// files to the programs that read them, and prints a table of what those say. It is run by
// `make accept-ci` and `make accept`, which install the readers.
//
//	go run ./internal/accept -python 'onnx=DIR/bin/python …' [-out FILE.md]
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/tensor"
)

// file is a compressed model with a sample and what thriftc computes from it, as the
// readers are told of it.
type file struct {
	Name   string `json:"name"`
	Model  string `json:"model"` // model.onnx
	Input  string `json:"input"` // npz of x, one sample, and y, the written model's results at the float level
	Format string `json:"format"`
	Bits   int    `json:"bits"`
	Pow2   bool   `json:"pow2"`
}

// verdict is what a reader says of a file.
type verdict struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // a difference, or the reader's message
}

// widths are the ways in which each subject is compressed.
var widths = []struct {
	name    string
	bits    int
	pow2    bool
	options map[string][]string
}{
	{"8", 8, false, nil},
	{"4", 4, false, map[string][]string{"weight-bits": {"4"}}},
	{"2", 2, false, map[string][]string{"weight-bits": {"2"}}},
	{"8, powers of two", 8, true, map[string][]string{"pow2": {"true"}, "per-tensor": {"true"}}},
}

func main() {
	pythons := flag.String("python", "", "the readers, each as NAME=INTERPRETER, separated by blanks")
	out := flag.String("out", "", "file for the table; nothing: standard output")
	glyphs := flag.String("glyphs", "testmodels/glyphs.onnx", "the trained model among the subjects")
	only := flag.String("only", "", "make only files whose name matches this pattern")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err == nil {
		err = run(context.Background(), strings.Fields(*pythons), *glyphs, *out, pattern)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "accept:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, readers []string, glyphs, out string, only *regexp.Regexp) error {
	dir, err := os.MkdirTemp("", "thriftc-accept-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := makeFiles(ctx, dir, glyphs, only)
	if err != nil {
		return err
	}
	list, err := json.Marshal(files)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "files.json"), list, 0o644); err != nil {
		return err
	}
	table := &table{files: files, says: map[string]map[string]verdict{}}
	for _, r := range readers {
		name, python, ok := strings.Cut(r, "=")
		if !ok {
			return fmt.Errorf("-python %s: expected NAME=INTERPRETER", r)
		}
		start := time.Now()
		about, says, err := ask(ctx, name, python, dir)
		if err != nil {
			return err
		}
		table.readers = append(table.readers, reader{name, about})
		table.says[name] = says
		fmt.Fprintf(os.Stderr, "%s: %d files in %.0f s\n", name, len(says), time.Since(start).Seconds())
	}
	var b bytes.Buffer
	bad := table.print(&b)
	if out == "" {
		_, err = os.Stdout.Write(b.Bytes())
	} else {
		err = os.WriteFile(out, b.Bytes(), 0o644)
	}
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("%d files are not accepted, and no limit of the reader explains it:\n  %s", len(bad), strings.Join(bad, "\n  "))
	}
	return err
}

// makeFiles writes the subjects and compresses them.
func makeFiles(ctx context.Context, dir, glyphs string, only *regexp.Regexp) ([]file, error) {
	var files []file
	for _, s := range slices.Concat([]subject{{name: "glyphs", input: []int{1, 28, 28}}}, subjects) {
		model := glyphs
		if s.build != nil {
			model = filepath.Join(dir, s.name+".onnx")
			g, err := s.graph()
			if err != nil {
				return nil, err
			}
			if err := onnxio.Write(model, g, onnxio.WriteOptions{}); err != nil {
				return nil, err
			}
		}
		m, err := thriftc.Open(model)
		if err != nil {
			return nil, err
		}
		desc, err := calibration(filepath.Join(dir, s.name+"-data"), m.Graph.Inputs[0].Name, s.input)
		if err != nil {
			return nil, err
		}
		for _, format := range []string{"qdq", "qcdq", "qonnx"} {
			for _, w := range widths {
				name := fmt.Sprintf("%s, %s, %s", s.name, format, w.name)
				if !only.MatchString(name) {
					continue
				}
				f := file{Name: name, Format: format, Bits: w.bits, Pow2: w.pow2}
				folder := filepath.Join(dir, strings.NewReplacer(", ", "-", " ", "_").Replace(name))
				_, err := thriftc.Compress(ctx, model, thriftc.CompressOptions{Output: folder, Data: desc, Format: format, Options: w.options})
				if err == nil {
					err = f.sample(ctx, folder, s.input)
				}
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// numbers returns random multiples of 1/64 between 0 and 1, which fixed-point readers hold exactly.
func numbers(seed uint64, shape ...int) *tensor.Tensor {
	n, _ := tensor.NumElems(shape)
	rng := rand.New(rand.NewPCG(seed, 7))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.IntN(65)) / 64
	}
	return tensor.Of(x, shape...)
}

// calibration writes a data description and its data.
func calibration(folder, name string, shape []int) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	x := numbers(1, append([]int{64}, shape...)...)
	if err := dataset.WriteNPZ(filepath.Join(folder, "calib.npz"), []dataset.Named{{Name: name, Tensor: x}}); err != nil {
		return "", err
	}
	desc := filepath.Join(folder, "calib.yaml")
	return desc, os.WriteFile(desc, []byte("kind: npz\npath: calib.npz\n"), 0o644)
}

// sample runs the written model on one sample and keeps both beside it.
func (f *file) sample(ctx context.Context, folder string, shape []int) error {
	f.Model = filepath.Join(folder, "model.onnx")
	m, err := thriftc.Open(f.Model)
	if err != nil {
		return err
	}
	x := numbers(2, append([]int{1}, shape...)...)
	in := map[string]*tensor.Tensor{m.Graph.Inputs[0].Name: x}
	out, err := thriftc.Run(ctx, m, in, thriftc.Engine{Float: true, NoWinograd: true, Threads: 1})
	if err != nil {
		return err
	}
	y := out[m.Graph.Outputs[0].Name]
	f.Input = filepath.Join(folder, "sample.npz")
	return dataset.WriteNPZ(f.Input, []dataset.Named{{Name: "x", Tensor: x}, {Name: "y", Tensor: y}})
}

// ask hands all files to a reader and returns its versions and what it says.
func ask(ctx context.Context, name, python, dir string) (about string, says map[string]verdict, err error) {
	work, err := os.MkdirTemp(dir, name+"-")
	if err != nil {
		return "", nil, err
	}
	script, err := filepath.Abs("internal/accept/readers.py")
	if err != nil {
		return "", nil, err
	}
	if python, err = filepath.Abs(python); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, python, script, name, filepath.Join(dir, "files.json"))
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PYTHONWARNINGS=ignore", "TF_CPP_MIN_LOG_LEVEL=3")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tail := stderr.Bytes()
		return "", nil, fmt.Errorf("%s: %w: %s", name, err, tail[max(0, len(tail)-2000):])
	}
	says = map[string]verdict{}
	dec := json.NewDecoder(&stdout)
	var head struct{ About string }
	if err := dec.Decode(&head); err != nil {
		return "", nil, fmt.Errorf("%s: %w", name, err)
	}
	for dec.More() {
		var v verdict
		if err := dec.Decode(&v); err != nil {
			return "", nil, fmt.Errorf("%s: %w", name, err)
		}
		says[v.Name] = v
	}
	return head.About, says, nil
}

type reader struct{ name, about string }

type table struct {
	files   []file
	readers []reader
	says    map[string]map[string]verdict // by reader and file
}

// print writes the table and returns the files that a reader refuses without a known limit.
func (t *table) print(w io.Writer) (bad []string) {
	fmt.Fprintln(w, "# Files of thriftc and the programs that read them")
	fmt.Fprintln(w)
	fmt.Fprintln(w, "Made by `make accept`. Each subject is a small model with random weights (glyphs: trained), compressed in a dialect;")
	fmt.Fprintln(w, "the reader loads the file, runs it on one sample, and is held against thriftc's own engine. `=`: the same numbers;")
	fmt.Fprintln(w, "a number: the largest difference as a part of the largest result; `-`: not a file for this reader; a letter: a limit of the reader, below.")
	fmt.Fprintln(w)
	for _, r := range t.readers {
		fmt.Fprintf(w, "- %s: %s\n", r.name, r.about)
	}
	fmt.Fprint(w, "\n| file |")
	for _, r := range t.readers {
		fmt.Fprintf(w, " %s |", r.name)
	}
	fmt.Fprint(w, "\n|---|", strings.Repeat("---|", len(t.readers)), "\n")
	used := map[*limit]bool{}
	for _, f := range t.files {
		fmt.Fprintf(w, "| %s |", f.Name)
		for _, r := range t.readers {
			v, asked := t.says[r.name][f.Name]
			l := limitOf(r.name, f, v.Detail)
			switch {
			case !asked:
				fmt.Fprint(w, " - |")
			case v.OK:
				fmt.Fprintf(w, " %s |", v.Detail)
			case l != nil:
				used[l] = true
				fmt.Fprintf(w, " %s |", l.letter)
			default:
				fmt.Fprint(w, " **refused** |")
				bad = append(bad, fmt.Sprintf("%s, %s: %s", r.name, f.Name, v.Detail))
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	for i := range limits {
		if l := &limits[i]; used[l] {
			fmt.Fprintf(w, "- %s (%s): %s\n", l.letter, l.reader, l.reason)
		}
	}
	return bad
}

// limit is something that a reader cannot do.
type limit struct {
	letter, reader string
	message        string // that the reader gives, or a part of it
	format         string // "": any
	reason         string
}

func limitOf(reader string, f file, detail string) *limit {
	for i := range limits {
		l := &limits[i]
		if l.reader == reader && strings.Contains(detail, l.message) && cmp.Or(l.format, f.Format) == f.Format {
			return l
		}
	}
	return nil
}

var limits = []limit{
	{"a", "qonnx", "could not be broadcast together", "qcdq", "QCDQToQuant multiplies stored weights with their scales without looking at the axis: one scale (`--per-tensor`) is needed"},
	{"b", "tract", "Unknown DatumType Int4", "", "there is no INT4; `--opset 17` stores 8 bits"},
	{"c", "openvino", "0.08", "", "on processors without VNNI its sums of 8-bit products of MatMul saturate; `--weight-bits 7` is right"},
}
