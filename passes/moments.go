package passes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
)

// Moments are the mean and standard deviation of each channel of a value over
// the data that a model was trained on, as its batch norms remember them.
// Passes hand them on in the model's metadata, by the name of the value.
type Moments struct {
	Mean []float32 `json:"mean"`
	Std  []float32 `json:"std"`
}

// momentsKey begins the metadata keys of moments.
const momentsKey = "thriftc.moments/"

// WidenedFrom is the metadata key under which widen leaves the element type that a model had, for narrow.
const WidenedFrom = "thriftc.widened"

// SetMoments records the moments of v.
func SetMoments(r *ir.Rewriter, v *ir.Value, m Moments) {
	b, err := json.Marshal(m)
	if err != nil {
		r.SetMeta(momentsKey+v.Name, "") // a value that is not finite: nothing is known
		return
	}
	r.SetMeta(momentsKey+v.Name, string(b))
}

// MomentsOf returns the recorded moments of v, and whether there are any.
func MomentsOf(v *ir.Value) (Moments, bool, error) {
	s := v.Graph().Root().MetaValue(momentsKey + v.Name)
	if s == "" {
		return Moments{}, false, nil
	}
	var m Moments
	if err := json.Unmarshal([]byte(s), &m); err != nil || len(m.Mean) == 0 || len(m.Mean) != len(m.Std) {
		return Moments{}, false, fmt.Errorf("metadata %s%s holds no moments", momentsKey, v.Name)
	}
	return m, true, nil
}

// Rename gives v another name, and its moments with it.
func Rename(r *ir.Rewriter, v *ir.Value, name string) {
	root, old := v.Graph().Root(), momentsKey+v.Name
	s := root.MetaValue(old)
	r.SetMeta(old, "")
	r.Rename(v, name)
	r.SetMeta(momentsKey+v.Name, s)
}

// ClearMoments removes all recorded moments.
func ClearMoments(r *ir.Rewriter) {
	for _, p := range slices.Clone(r.Graph().Root().Meta) {
		if strings.HasPrefix(p.Key, momentsKey) {
			r.SetMeta(p.Key, "")
		}
	}
}
