package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/ir"
)

// openModel reads a model and prints what the reader ignored or repaired.
func openModel(c *cobra.Command, file string) (*thriftc.Model, error) {
	m, err := thriftc.Open(file)
	for _, n := range m.Notes {
		fmt.Fprintf(c.ErrOrStderr(), "thriftc: note: %s: %s\n", file, n)
	}
	return m, err
}

// addThreads adds the flag that all running commands share.
func addThreads(c *cobra.Command, threads *int) {
	c.Flags().Var((*threadCount)(threads), "threads", "worker threads; 0 means all cores")
}

// engineOptions are the flags that say how a model is run.
type engineOptions struct {
	thriftc.Engine
	level string // one of levelNames
}

func (o *engineOptions) engine() thriftc.Engine {
	e := o.Engine
	e.Float = o.level == "float"
	return e
}

var levelNames = []string{"int", "float"}

// addEngine adds the flags that choose how the engine runs a model.
func addEngine(c *cobra.Command, o *engineOptions) {
	o.level = "int"
	c.Flags().Var(&oneOf{&o.level, "level", levelNames}, "level", "arithmetic of what is quantised: int computes with integers where that is possible, float as the file says it")
	addThreads(c, &o.Threads)
	o.Kernel = "auto"
	c.Flags().Var(&oneOf{&o.Kernel, "name", kernelNames}, "kernel", "instruction set: "+strings.Join(kernelNames, ", "))
	c.Flags().BoolVar(&o.NoWinograd, "no-winograd", false, "compute every convolution in its operator's own order of operations")
}

var kernelNames = []string{"auto", "portable", "avx2", "avx512"}

// oneOf is a flag that takes one of some words.
type oneOf struct {
	to    *string
	what  string
	words []string
}

func (f *oneOf) String() string {
	if f.to == nil { // of the zero value, which pflag compares defaults with
		return ""
	}
	return *f.to
}

func (f *oneOf) Type() string { return f.what }

func (f *oneOf) Set(s string) error {
	if !slices.Contains(f.words, s) {
		return fmt.Errorf("is none of %s", strings.Join(f.words, ", "))
	}
	*f.to = s
	return nil
}

// threadCount is a flag that refuses negative numbers.
type threadCount int

func (t *threadCount) String() string { return strconv.Itoa(int(*t)) }
func (t *threadCount) Type() string   { return "int" }

func (t *threadCount) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return errors.New("is not a number of threads")
	}
	*t = threadCount(n)
	return nil
}

// byteSize is a flag that takes a number of bytes with an optional unit.
type byteSize int64

func (b *byteSize) String() string { return strconv.FormatInt(int64(*b), 10) }
func (b *byteSize) Type() string   { return "size" }

func (b *byteSize) Set(s string) error {
	x, err := parseSize(s)
	if err != nil || x >= 1<<62 {
		return errors.New("is not a size; write 200MiB, 300kB, 0.5GB or a number of bytes")
	}
	*b = byteSize(x)
	return nil
}

// parseSize reads a number of bytes with an optional unit.
func parseSize(s string) (float64, error) {
	number := strings.TrimRight(s, "kKMGTiB")
	units := map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	unit, known := units[s[len(number):]]
	x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !known || !(x >= 0) {
		return 0, errors.New("is not a size")
	}
	return x * unit, nil
}

// inputNames lists a graph's inputs for messages.
func inputNames(g *ir.Graph) string {
	var s []string
	for _, v := range g.Inputs {
		s = append(s, fmt.Sprintf("%s: %v", v.Name, v.Type))
	}
	return strings.Join(s, ", ")
}
