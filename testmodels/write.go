package testmodels

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"path/filepath"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir/onnxio"
)

// What the files hold: the seeds and sizes of the two parts of the data and
// the seed of the model.
const (
	trainSeed, trainPictures = 1, 1600
	testSeed, testPictures   = 2, 800
	modelSeed                = 3
)

// Write makes glyphs.onnx and the data in glyphs/ under a folder.
func Write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "glyphs"), 0o755); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		seed uint64
		n    int
	}{{"train", trainSeed, trainPictures}, {"t10k", testSeed, testPictures}} {
		pixels, labels := Pictures(part.seed, part.n)
		for _, f := range []struct {
			name string
			data []byte
		}{
			{"-images-idx3-ubyte.gz", idx(pixels, part.n, Side, Side)},
			{"-labels-idx1-ubyte.gz", idx(labels, part.n)},
		} {
			packed, err := pack(f.data)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "glyphs", part.name+f.name), packed, 0o644); err != nil {
				return err
			}
		}
	}
	for name, text := range map[string]string{
		"desc.yaml": "# Drawn shapes for training, calibrating and choosing; test.yaml is for reporting only.\nkind: idx\nsplit: train\n" + preprocess,
		"test.yaml": "# Drawn shapes that nothing was fitted to.\nkind: idx\nsplit: test\n" + preprocess,
	} {
		if err := os.WriteFile(filepath.Join(dir, "glyphs", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	data, err := dataset.Open(filepath.Join(dir, "glyphs", "desc.yaml"))
	if err != nil {
		return err
	}
	g, err := Network(modelSeed)
	if err != nil {
		return err
	}
	if err := Train(g, modelSeed, data); err != nil {
		return err
	}
	return onnxio.Write(filepath.Join(dir, "glyphs.onnx"), g, onnxio.WriteOptions{})
}

const preprocess = "preprocess: {scale: 0.00392156862745098}\n"

// idx is the format of MNIST: unsigned bytes with big-endian dimensions before them.
func idx(data []byte, shape ...int) []byte {
	out := []byte{0, 0, 8, byte(len(shape))}
	for _, d := range shape {
		out = binary.BigEndian.AppendUint32(out, uint32(d))
	}
	return append(out, data...)
}

func pack(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
