// Package arch builds named network architectures as graphs, with weights drawn
// from a seed (He et al. 2015, arXiv 1502.01852, section 2.2). A graph is in
// inference form, with batch normalisation, and ends in one logit per class.
package arch

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/ir"
)

// Spec says which network to build. What it leaves at zero is the
// architecture's own default.
type Spec struct {
	Name     string  // such as "resnet20" or "wrn-28-1.5"
	Width    float64 // resnet: channels of the first stage; mobilenetv1, dscnn, lenet: factor of all channels
	Shortcut string  // resnet: how a shortcut changes shape: conv (1×1 and batch norm) or pad (every second pixel, zero channels)
	Input    []int   // channels, height, width
	Classes  int
}

// family is a kind of architecture. Its build function may rely on what
// Spec.check has checked.
type family struct {
	pattern *regexp.Regexp // of names; submatches are numbers for build
	title   string
	input   []int // default
	classes int   // default
	options []string
	build   func(b *builder, s Spec, x *ir.Value, numbers []float64) (*ir.Value, error)
}

var families = []family{
	{regexp.MustCompile(`^resnet([0-9]+)$`), "resnetD (D = 6n+2)", []int{3, 32, 32}, 10, []string{"width", "shortcut"}, resNet},
	{regexp.MustCompile(`^resnet8-tiny$`), "resnet8-tiny (MLPerf Tiny)", []int{3, 32, 32}, 10, nil, resNetTiny},
	{regexp.MustCompile(`^wrn-([0-9]+)-([0-9]+(?:\.[0-9]+)?)$`), "wrn-D-K (D = 6n+4)", []int{3, 32, 32}, 10, nil, wideResNet},
	{regexp.MustCompile(`^mobilenetv1$`), "mobilenetv1", []int{3, 224, 224}, 1000, []string{"width"}, mobileNet},
	{regexp.MustCompile(`^dscnn$`), "dscnn", []int{1, 49, 10}, 12, []string{"width"}, dsCNN},
	{regexp.MustCompile(`^lenet$`), "lenet", []int{1, 28, 28}, 10, []string{"width"}, leNet},
}

// Names lists the architectures for help texts.
func Names() string {
	var s []string
	for _, f := range families {
		t := f.title
		if len(f.options) > 0 {
			t += " {" + strings.Join(f.options, ", ") + "}"
		}
		s = append(s, t)
	}
	return strings.Join(s, "; ")
}

// Parse reads what stands after "arch:" on a command line: a name and options
// in braces, as in resnet20{width=32,shortcut=pad}.
func Parse(text string) (Spec, error) {
	name, rest, braces := strings.Cut(text, "{")
	s := Spec{Name: name}
	if braces {
		var ok bool
		if rest, ok = strings.CutSuffix(rest, "}"); !ok {
			return s, fmt.Errorf("arch:%s: a closing brace is missing", text)
		}
		for opt := range strings.SplitSeq(rest, ",") {
			key, value, _ := strings.Cut(opt, "=")
			var err error
			switch key {
			case "width":
				s.Width, err = strconv.ParseFloat(value, 64)
			case "shortcut":
				s.Shortcut = value
			default:
				err = errors.New("there are width and shortcut")
			}
			if err != nil {
				return s, fmt.Errorf("arch:%s: option %q: %w", text, opt, err)
			}
		}
	}
	_, _, err := s.find()
	return s, err
}

// find returns the family of the name and the numbers in it, after checking
// the options.
func (s Spec) find() (*family, []float64, error) {
	for i := range families {
		f := &families[i]
		m := f.pattern.FindStringSubmatch(s.Name)
		if m == nil {
			continue
		}
		var numbers []float64
		for _, t := range m[1:] {
			x, err := strconv.ParseFloat(t, 64)
			if err != nil || x > maxNumber {
				return nil, nil, fmt.Errorf("arch:%s: %s is too large", s.Name, t)
			}
			numbers = append(numbers, x)
		}
		return f, numbers, s.check(f)
	}
	return nil, nil, fmt.Errorf("there is no architecture %q; there are %s", s.Name, Names())
}

// maxNumber bounds depths, widths, sides and classes, so that a typing error
// does not allocate all memory.
const maxNumber = 100_000

func (s Spec) check(f *family) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("arch:%s: %s", s.Name, fmt.Sprintf(format, args...)))
	}
	if s.Width != 0 && !slices.Contains(f.options, "width") {
		bad("has no option width")
	}
	if s.Width < 0 || s.Width > maxNumber || s.Width != s.Width {
		bad("width is %g", s.Width)
	}
	if s.Shortcut != "" && !slices.Contains(f.options, "shortcut") {
		bad("has no option shortcut")
	} else if !slices.Contains([]string{"", "conv", "pad"}, s.Shortcut) {
		bad("shortcut is %q; it can be conv or pad", s.Shortcut)
	}
	if s.Input != nil && (len(s.Input) != 3 || slices.Min(s.Input) < 1 || slices.Max(s.Input) > maxNumber) {
		bad("input of shape %v, expected channels, height and width", s.Input)
	}
	if s.Classes < 0 || s.Classes == 1 || s.Classes > maxNumber {
		bad("%d classes", s.Classes)
	}
	return errors.Join(errs...)
}

// Build returns the network with weights drawn from the seed.
func Build(s Spec, ops *ir.Registry, seed uint64) (*ir.Graph, error) {
	f, numbers, err := s.find()
	if err != nil {
		return nil, err
	}
	if s.Input == nil {
		s.Input = f.input
	}
	if s.Classes == 0 {
		s.Classes = f.classes
	}
	b := newBuilder(s.Name, ops, seed)
	x := b.input(s.Input)
	y, err := f.build(b, s, x, numbers)
	if err == nil {
		err = b.err
	}
	if err != nil {
		return nil, fmt.Errorf("arch:%s: %w", s.Name, err)
	}
	b.r.Output(y)
	return b.g, ir.Verify(b.g)
}
