"""The public names with their types; ``Testing/api`` holds them against what is found."""

from SaliencyExplain.api.checking import check_model as check_model
from SaliencyExplain.api.clicking import probe as probe
from SaliencyExplain.api.comparing import compare as compare
from SaliencyExplain.api.comparing import evaluate as evaluate
from SaliencyExplain.api.explained_maps import ExplainedMap as ExplainedMap
from SaliencyExplain.api.explaining import Result as Result
from SaliencyExplain.api.explaining import explain as explain
from SaliencyExplain.api.explaining import predict as predict
from SaliencyExplain.api.model_arguments import load_model as load_model
from SaliencyExplain.api.study_run import study as study
from SaliencyExplain.api.tensors import attribute as attribute
from SaliencyExplain.attribution.methods.cam import CAM as CAM
from SaliencyExplain.attribution.methods.cam import GradCAM as GradCAM
from SaliencyExplain.attribution.methods.cam import GradCAMPlusPlus as GradCAMPlusPlus
from SaliencyExplain.attribution.methods.control_maps import CentreMap as CentreMap
from SaliencyExplain.attribution.methods.control_maps import RandomMap as RandomMap
from SaliencyExplain.attribution.methods.deconvnet import DeConvNet as DeConvNet
from SaliencyExplain.attribution.methods.deep_lift import DeepLift as DeepLift
from SaliencyExplain.attribution.methods.deep_lift import DeepShap as DeepShap
from SaliencyExplain.attribution.methods.expected_gradients import (
    ExpectedGradients as ExpectedGradients,
)
from SaliencyExplain.attribution.methods.gradient import Gradient as Gradient
from SaliencyExplain.attribution.methods.gradient import SmoothGrad as SmoothGrad
from SaliencyExplain.attribution.methods.guided_backpropagation import (
    GuidedBackpropagation as GuidedBackpropagation,
)
from SaliencyExplain.attribution.methods.guided_backpropagation import (
    GuidedSmoothGrad as GuidedSmoothGrad,
)
from SaliencyExplain.attribution.methods.guided_gradcam import GuidedGradCAM as GuidedGradCAM
from SaliencyExplain.attribution.methods.guided_integrated_gradients import (
    GuidedIntegratedGradients as GuidedIntegratedGradients,
)
from SaliencyExplain.attribution.methods.input_gradient import (
    GradientTimesInput as GradientTimesInput,
)
from SaliencyExplain.attribution.methods.integrated_gradients import (
    IntegratedGradients as IntegratedGradients,
)
from SaliencyExplain.attribution.methods.kernel_shap import KernelShap as KernelShap
from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep as LayerSweep
from SaliencyExplain.attribution.methods.layer_wise_relevance import (
    LayerwiseRelevance as LayerwiseRelevance,
)
from SaliencyExplain.attribution.methods.lime import Lime as Lime
from SaliencyExplain.attribution.methods.occlusion import Occlusion as Occlusion
from SaliencyExplain.attribution.methods.respond_cam import RespondCAM as RespondCAM
from SaliencyExplain.attribution.methods.score_cam import ScoreCAM as ScoreCAM
from SaliencyExplain.attribution.methods.shapley import Shapley as Shapley
from SaliencyExplain.attribution.methods.smooth_integrated_gradients import (
    SmoothIntegratedGradients as SmoothIntegratedGradients,
)
from SaliencyExplain.attribution.methods.smooth_integrated_gradients import (
    SquaredSmoothIntegratedGradients as SquaredSmoothIntegratedGradients,
)
from SaliencyExplain.attribution.methods.xrai import XRAI as XRAI
from SaliencyExplain.attribution.methods.xrai import FastXRAI as FastXRAI
from SaliencyExplain.comparison.map_comparison import Comparison as Comparison
from SaliencyExplain.demo.phantoms import draw_phantom as draw_phantom
from SaliencyExplain.errors import SaliencyExplainError as SaliencyExplainError
from SaliencyExplain.images.reading import read_image as read_image
from SaliencyExplain.images.segmentation import read_segmentation as read_segmentation
from SaliencyExplain.models.classifier import Classifier as Classifier
from SaliencyExplain.models.network_in_memory import Model as Model
from SaliencyExplain.probe_result import Probe as Probe
from SaliencyExplain.results.attribution_map import Attribution as Attribution
from SaliencyExplain.results.image_explanation import Explanation as Explanation
from SaliencyExplain.specification.target import Target as Target

__version__: str
