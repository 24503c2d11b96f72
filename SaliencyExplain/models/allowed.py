"""Names of the networks, layers and transforms that a bundle may use without trust.

A name is on these lists if building and calling it reads and writes no file, opens no
connection, imports nothing by a name that it is given, and takes no function as an argument
that it needs.
"""

from __future__ import annotations

NETWORKS = "monai.networks.nets"
TRANSFORMS = "monai.transforms"
LAYERS = "torch.nn"
TORCHVISION = "torchvision.models"
TIMM = "timm"
NETWORK_CHANGES = "SaliencyExplain.models.network_changes"
PICTURE_STEPS = "SaliencyExplain.models.picture_steps"

_NETWORK_NAMES = """
    DenseNet Densenet DenseNet121 Densenet121 densenet121 DenseNet169 Densenet169 densenet169
    DenseNet201 Densenet201 densenet201 DenseNet264 Densenet264 densenet264
    ResNet resnet10 resnet18 resnet34 resnet50 resnet101 resnet152 resnet200
    SENet SEnet Senet SENet154 SEnet154 Senet154 senet154
    SEResNet50 SEresnet50 Seresnet50 seresnet50 SEResNet101 SEresnet101 Seresnet101 seresnet101
    SEResNet152 SEresnet152 Seresnet152 seresnet152
    SEResNext50 SEResNeXt50 SEresnext50 Seresnext50 seresnext50
    SEResNext101 SEResNeXt101 SEresnext101 Seresnext101 seresnext101
    EfficientNet EfficientNetBN ViT ViTAutoEnc
    Classifier Critic Discriminator Regressor
    FullyConnectedNet VarFullyConnectedNet HighResNet NetAdapter TorchVisionFCModel
    AHNet AHnet Ahnet AttentionUnet AutoEncoder BasicUNet BasicUnet Basicunet basicunet
    DynUNet DynUnet Dynunet SegResNet SegResNetVAE SegResNetDS SegResNetDS2 SwinUNETR
    UNet Unet UNETR VNet VarAutoEncoder
"""

_LAYER_NAMES = """
    Identity Linear Bilinear Flatten Unflatten Dropout Dropout1d Dropout2d Dropout3d AlphaDropout
    Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
    BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d
    GroupNorm LayerNorm RMSNorm LocalResponseNorm
    MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
    AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    ReLU ReLU6 LeakyReLU PReLU RReLU ELU CELU SELU GELU SiLU Mish Sigmoid Tanh Softplus Softsign
    Softmax Softmax2d LogSoftmax LogSigmoid Hardtanh Hardsigmoid Hardswish Threshold
    ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d
    ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d
    Upsample PixelShuffle PixelUnshuffle Sequential MultiheadAttention TransformerEncoderLayer
"""

# Without the letter d of the dictionary transforms.
_TRANSFORM_NAMES = """
    Affine BorderPad CenterScaleCrop CenterSpatialCrop CropForeground DivisiblePad Flip
    GridDistortion Orientation Resize ResizeWithPadOrCrop Rotate Rotate90 Spacing SpatialCrop
    SpatialPad Transpose Zoom
    AdjustContrast ClipIntensityPercentiles ForegroundMask GaussianSharpen GaussianSmooth
    GibbsNoise HistogramNormalize KSpaceSpikeNoise MaskIntensity MedianSmooth NormalizeIntensity
    SavitzkyGolaySmooth ScaleIntensity ScaleIntensityRange ScaleIntensityRangePercentiles
    ShiftIntensity StdShiftIntensity ThresholdIntensity
    AddCoordinateChannels AsChannelLast CastToType ConcatItems
    ConvertToMultiChannelBasedOnBratsClasses CopyItems DeleteItems EnsureChannelFirst EnsureType
    FromMetaTensor Identity ImageFilter LabelToMask MapLabelValue RemoveRepeatedChannel
    RepeatChannel SelectItems SqueezeDim ToDevice ToMetaTensor ToNumpy ToTensor
    AsDiscrete DistanceTransformEDT FillHoles KeepLargestConnectedComponent LabelFilter
    RemoveSmallObjects SobelGradients
"""

#: Names by package; torchvision's and timm's are in lists of their own that grow with them.
NAMES: dict[str, frozenset[str]] = {
    NETWORKS: frozenset(_NETWORK_NAMES.split()),
    LAYERS: frozenset(_LAYER_NAMES.split()),
    NETWORK_CHANGES: frozenset({"with_input_channels", "mean_of"}),
    PICTURE_STEPS: frozenset(
        {"AntialiasedResized", "ShortestResized", "CenterCropd", "SquareCropd", "SquarePadd"}
    ),
    TRANSFORMS: frozenset(
        {"Compose"}
        | {f"{name}{end}" for name in _TRANSFORM_NAMES.split() for end in ("", "d", "D")}
    )
    | frozenset(f"{name}Dict" for name in _TRANSFORM_NAMES.split()),
}
