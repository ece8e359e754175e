package arch

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestParameters holds the numbers of parameters against published ones. Where
// a publication counts running statistics they are in it.
func TestParameters(t *testing.T) {
	for _, c := range []struct {
		name       string
		s          Spec
		trained    int
		statistics int
	}{
		// He et al., table 6: 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M.
		{"resnet20{shortcut=pad}", Spec{}, 269_722, 1376},
		{"resnet32{shortcut=pad}", Spec{}, 464_154, 2272},
		{"resnet44{shortcut=pad}", Spec{}, 658_586, 3168},
		{"resnet56{shortcut=pad}", Spec{}, 853_018, 4064},
		{"resnet110{shortcut=pad}", Spec{}, 1_727_962, 8096},
		// The network of cifar10_resnet20 in chenyaofo/pytorch-cifar-models.
		{"resnet20", Spec{}, 272_474, 1568},
		// MLPerf Tiny: 78,666; 24,908; 221,794 in all (Keras summaries of mlcommons/tiny).
		{"resnet8-tiny", Spec{}, 78_666 - 480, 480},
		{"dscnn", Spec{}, 24_908 - 1152, 1152},
		// The last one has 2,736 biases that batch normalisation takes away again; ours has none.
		{"mobilenetv1{width=0.25}", Spec{Input: []int{3, 96, 96}, Classes: 2}, 221_794 - 5472 - 2736, 5472},
		// Keras: MobileNet 4,253,864, of which 21,888 are statistics.
		{"mobilenetv1", Spec{}, 4_253_864 - 21_888, 21_888},
		// Zagoruyko and Komodakis, table 4: 36.5 M; MicroNet 2019's reference: 36,536,884.
		{"wrn-28-10", Spec{Classes: 100}, 36_536_884, 17_952},
		{"wrn-16-4", Spec{}, 2_748_890, 3616},
		// LeNet-5 with full connections between the first and the second layer.
		{"lenet", Spec{}, 61_706, 0},
	} {
		s, err := Parse(c.name)
		if err != nil {
			t.Error(err)
			continue
		}
		s.Input, s.Classes = c.s.Input, c.s.Classes
		g, err := Build(s, ops.Table(), 1)
		if err != nil {
			t.Error(err)
			continue
		}
		trained, statistics := 0, 0
		for _, v := range g.Consts {
			switch {
			case v.Type.Elem != tensor.F32:
			case strings.Contains(v.Name, "running_"):
				statistics += v.Data.Len()
			default:
				trained += v.Data.Len()
			}
		}
		if trained != c.trained || statistics != c.statistics {
			t.Errorf("%s: %d parameters and %d statistics, want %d and %d", c.name, trained, statistics, c.trained, c.statistics)
		}
	}
}

func TestSeed(t *testing.T) {
	print := func(seed uint64) [32]byte {
		g, err := Build(Spec{Name: "resnet8", Width: 4}, ops.Table(), seed)
		if err != nil {
			t.Fatal(err)
		}
		return ir.Fingerprint(g)
	}
	first := print(1)
	if first != print(1) {
		t.Error("equal seeds give different weights")
	}
	if first == print(2) {
		t.Error("different seeds give equal weights")
	}
}

func TestHeInitialisation(t *testing.T) {
	g, err := Build(Spec{Name: "resnet20"}, ops.Table(), 3)
	if err != nil {
		t.Fatal(err)
	}
	w := g.Value("layer3.2.conv2.weight").Data.Float32s()
	sum, squares := 0.0, 0.0
	for _, x := range w {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	n := float64(len(w))
	if mean, variance := sum/n, squares/n; mean > 0.002 || mean < -0.002 || variance*288 < 0.97 || variance*288 > 1.03 {
		t.Errorf("mean %g, variance %g, want 0 and 1/288", mean, variance)
	}
}

func TestFractionalWidth(t *testing.T) {
	g, err := Build(Spec{Name: "wrn-28-0.5"}, ops.Table(), 1)
	if err != nil {
		t.Fatal(err)
	}
	// First and last stage: 16·k and 64·k channels.
	if a, b := g.Value("block1.0.conv1").Type, g.Value("block3.3.add").Type; a.Dims[1].N != 8 || b.Dims[1].N != 32 || b.Dims[2].N != 8 {
		t.Errorf("got %v and %v", a, b)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"resnet21", "depth 21 is not 6n+2"},
		{"resnet2", "depth 2 is not 6n+2"},
		{"wrn-27-1", "depth 27 is not 6n+4"},
		{"resnet99999999", "too large"},
		{"vgg", `no architecture "vgg"`},
		{"resnet20{width=-1}", "width is -1"},
		{"resnet20{width=x}", "invalid syntax"},
		{"resnet20{shortcut=none}", `shortcut is "none"`},
		{"resnet20{deep=1}", "there are width and shortcut"},
		{"resnet20{width=1", "closing brace"},
		{"lenet{shortcut=pad}", "has no option shortcut"},
		{"wrn-28-1{width=2}", "has no option width"},
	} {
		s, err := Parse(c.text)
		if err == nil {
			_, err = Build(s, ops.Table(), 0)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := Build(Spec{Name: "lenet", Input: []int{1, 8, 8}}, ops.Table(), 0); err == nil {
		t.Error("lenet took pictures of 8×8")
	}
}
